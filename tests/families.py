"""The smallest network of each family."""

FAMILIES = {
    "ResNet": "timm/resnet18",
    "SE-ResNeXt": "timm/legacy_seresnext26_32x4d",  # with the winners' names and padding
    "EfficientNet-Lite": "efficientnet_lite0",
    "ConvNeXt": "timm/convnext_atto",
    "ViT patch 14 with registers": "timm/vit_small_patch14_reg4_dinov2",
    "ViT patch 16": "timm/vit_tiny_patch16_224",
    "CLIP": "timm/vit_xsmall_patch16_clip_224",
    "DINOv3": "timm/vit_tiny_patch16_dinov3_qkvb",
}
