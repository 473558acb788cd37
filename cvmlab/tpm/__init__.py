"""TPM 2.0 structures read strictly, and the checks that make a quote evidence."""
