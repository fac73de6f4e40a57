"""Cityscapes with a foundation encoder: DINOv3 ViT-B/16 and DPT in place of ResNet-50 and DeepLabv3+.

All else is that of ../ensemble_teacher+cutmix: data, crop (800), batch, loss with OHEM, epochs, views and the method
itself. The rates (5e-6 for the encoder, 40 times that for the decoder), the weight decay and the confidence are those
by which UniMatch V2 (Yang et al., 2024, arXiv:2410.10777) trains DINOv2. Expected memory and hours: not measured.

The weights are timm's copy of DINOv3's (Simeoni et al., 2025): timm/vit_base_patch16_dinov3.lvd1689m on the Hugging
Face hub. The DINOv3 licence holds for them; accept it where the hub asks for it. Without network: bring the file
model.safetensors of that repository here, and set pretrained_model to its path.
"""

from easydict import EasyDict

config = EasyDict(
    base="../ensemble_teacher+cutmix",
    decoder="DPT",
    backbone="tu-vit_base_patch16_dinov3.lvd1689m",
    pretrained_model="hub",
    optimizer="adamw",
    learning_rate=2e-4,
    backbone_rate_factor=0.025,  # 5e-6
    learning_rate_factor=1,  # the base halves the rate of its published recipe
    weight_decay=0.01,
    confidence=0.95,
)
