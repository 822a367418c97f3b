"""A folder for each label, with links to the images of a run or copies of them."""
