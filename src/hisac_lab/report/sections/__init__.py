"""The sections of the report, a file each: what it says and the charts that it alone draws."""
