"""Rolling policies out, scoring them, drawing the results."""
