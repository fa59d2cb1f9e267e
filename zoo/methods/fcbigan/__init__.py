"""FCBiGAN: the networks, their losses, their training and their scoring.

Source: Peccia, "Generative Adversarial Networks And Real-Time Anomaly Detection In Texture
Images", Politecnico di Milano 2021.
"""

__all__ = ["config", "networks"]  # for methods that share its networks
