"""A package with one of each of what keyframe lets you replace; docs/extend.md goes through it."""
