"""Questions of users about now and then."""
