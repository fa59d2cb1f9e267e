"""Synthetic defects with masks, painted on real good images.

They replace labelled defects, which are rarely available: detectors are chosen on the validation
set, and training uses the pairs. The strength of a defect is relative to the image's own
statistics, so both dark and bright images get faint and clear defects. A mask is where the image
visibly changed. To add a defect family, write one function and one line in `families`.
"""

__all__ = ["families", "fit_pictures", "optics", "painting", "placebo", "sheet", "validation"]
