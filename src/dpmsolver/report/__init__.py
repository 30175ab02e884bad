"""Write the results of a comparison as one self-contained HTML page.

`write_report` makes the page; `strip` and `scatter` make its pictures. All need the extra `report`.
"""

try:
    from dpmsolver.report.page import write_report
    from dpmsolver.report.pictures import scatter, strip
    from dpmsolver.report.shown import pictures_of
except ImportError as error:  # pragma: no cover - an installation without the extra
    raise ImportError(f"the report needs jinja2 and pillow ({error}): pip install 'dpmsolver[report]'") from None

__all__ = ["pictures_of", "scatter", "strip", "write_report"]
