"""The only code that runs learners, encoders and tokenizers over pools; it leaves arrays in the store."""
