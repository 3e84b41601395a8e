"""The report's figures: matplotlib, colour-blind safe, as SVG and PNG."""
