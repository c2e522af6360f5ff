"""The only code that runs learners, encoders and tokenizers over pools; what it leaves behind are arrays in the store."""
