"""What operator authors and the tests of this project test with."""
