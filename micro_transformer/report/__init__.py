"""From a folder of records to tables, figures and a page."""
