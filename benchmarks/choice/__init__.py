"""Choice: the evidence behind `solver="auto"`."""
