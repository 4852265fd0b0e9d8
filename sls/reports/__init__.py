"""From results to figures, tables and a page; knows no MLflow: begin with `report`."""
