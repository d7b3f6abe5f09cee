"""Workflow files without a page: read in any form, checked, run here or queued on a server, laid out for the page."""
