"""Who won, and since when: MLflow keeps the record, the gate decides, the shelf serves."""
