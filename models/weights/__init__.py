"""What users have on disk, found, recognised and loaded strictly."""
