"""How the images of Flow Images are made. It needs a checkout, so no wheel or image contains it."""
