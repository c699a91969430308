"""What lies here is run by the tests of the package, as a user would run it, and not collected."""

collect_ignore_glob = ["*"]
