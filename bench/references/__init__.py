"""The plain programs that Signup is measured against."""
