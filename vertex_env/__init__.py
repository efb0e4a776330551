"""Fresh Google access tokens for everything that speaks the OpenAI protocol to Vertex AI."""

__version__ = "0.1.0"
