"""Named starting points, each no more than a config."""

from dataclasses import fields, replace

from nst.config import TransferConfig

PRESETS = {
    "painting": TransferConfig(),
    "light-wash": TransferConfig(style_weight=3, colors="matched", strength=0.8),
    "own-colours": TransferConfig(style_weight=30, colors="luminance"),
    "detail-keeper": TransferConfig(style_weight=10, content_layers=("block2_conv2", "block3_conv2")),
    "fine-strokes": TransferConfig(style_scale=0.5),
    "poster": TransferConfig(style_layers=("block1_conv1", "block2_conv1"), tv_weight=40),
    "dissolved": TransferConfig(
        content_weight=0.05, style_weight=1000, style_scale=1.5, optimizer="adam", iterations=120
    ),
}


def on_preset(name: str, config: TransferConfig) -> TransferConfig:
    """That preset, with what in `config` is not the default in place of its own."""
    default = TransferConfig()
    settings = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    changed = {key: value for key, value in settings.items() if value != getattr(default, key)}
    return replace(PRESETS[name], **changed)
