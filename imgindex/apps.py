"""The Django application."""

from django.apps import AppConfig


class ImgindexConfig(AppConfig):
    name = "imgindex"
    verbose_name = "Image index"
