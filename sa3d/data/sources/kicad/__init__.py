"""CAD models of electronic components (KiCad's ``3dmodels``)."""
