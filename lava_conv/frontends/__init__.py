"""What users bring, brought to one form: modules, and models of quantisation toolkits."""
