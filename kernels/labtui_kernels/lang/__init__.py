"""The words of the lab: sites, positions, strengths, edit expressions, direction algebra. No torch."""
