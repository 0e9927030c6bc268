"""Pure decisions: values in, values out. No clock, no input or output, no logging; import-linter sees to it."""
