"""File formats that are read and written, by the names and endings that people see."""

READ_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # Pillow reads MPO as JPEG
SAVED_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
ANIMATION_ENDINGS = (".webp", ".mp4")
