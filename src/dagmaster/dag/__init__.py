"""The workflow language: definitions, expressions, graphs and pure decisions. No clock, no database, no await."""
