"""Parts of joint-search: what may go, what it costs, what is chosen, and whether a limit holds."""
