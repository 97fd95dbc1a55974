"""What crosses a process or a table: states, messages, handler descriptions. No behaviour."""
