// .teamcity/settings.kts, within a BuildType
params {
    // TeamCity masks the value that `vertex-env ci` sets because of the type; `vertex-env ci` refuses without it.
    password("env.OPENAI_API_KEY", "", display = ParameterDisplay.HIDDEN)
    param("env.GOOGLE_APPLICATION_CREDENTIALS", "%teamcity.agent.work.dir%/google-credentials.json")
    param("env.GOOGLE_CLOUD_PROJECT", "my-project")
}

steps {
    script {
        name = "Set the variables"
        scriptContent = "vertex-env ci --job-timeout 50m"
    }
    script {
        name = "Chat"
        scriptContent = "python chat.py"
    }
}
