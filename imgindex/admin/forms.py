"""The admin's forms."""

import json
from typing import Any

import orjson
from django import forms
from django.contrib.admin.helpers import ActionForm

from imgindex import models
from imgindex.admin.listing import label
from imgindex.intake import IntakeError
from imgindex.services import access, catalogue
from imgindex.services.describe import FromUpload, FromUrl
from imgindex.types import Caller, InvalidInput, Metadata, ServiceError, Written
from matching.fingerprints import PDQ_FINGERPRINT
from matching.types import MatchingError


class MetadataField(forms.CharField):
    """A JSON object as text. Read as strictly as the API reads it: no NaN, no lone surrogates."""

    widget = forms.Textarea(attrs={"class": "metadata", "rows": 8, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        """The object as indented text; text that was sent is shown again as it was."""
        return value if isinstance(value, str) else json.dumps(value or {}, ensure_ascii=False, indent=2)

    def to_python(self, value: Any) -> Metadata:  # type: ignore[override]
        """The object that the text writes; an empty text is an empty object."""
        try:
            metadata = orjson.loads((value or "").strip() or "{}")
        except orjson.JSONDecodeError as exc:
            raise forms.ValidationError(f"This is not JSON: {exc}.") from exc
        if not isinstance(metadata, dict):
            raise forms.ValidationError('Metadata are a JSON object, such as {"colour": "red"}.')
        try:
            catalogue.check_metadata(metadata)
        except InvalidInput as exc:
            raise forms.ValidationError(str(exc)) from exc
        return metadata

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether the text means another object than the one that was shown."""
        try:
            return self.to_python(self.prepare_value(initial)) != self.to_python(data)
        except forms.ValidationError:
            return True


class ImageForm(forms.ModelForm):
    """What may be changed of an indexed image."""

    metadata = MetadataField(required=False)

    class Meta:
        model = models.Image
        fields = ("metadata",)


class CollectionField(forms.ModelChoiceField):
    """A choice of collections that tells those of different tenants apart."""

    def label_from_instance(self, obj: models.Collection) -> str:
        return label(obj)


class IndexForm(forms.Form):
    """A picture to be indexed."""

    collection = CollectionField(
        models.Collection.objects.filter(dropped=None).order_by("tenant", "name"), empty_label=None
    )
    file = forms.FileField(required=False)
    url = forms.CharField(
        label="or URL", required=False, max_length=8192, widget=forms.TextInput(attrs={"class": "vLargeTextField"})
    )
    external_id = forms.CharField(
        label="ID",
        required=False,
        max_length=catalogue.MAX_ID_BYTES,
        strip=False,
        help_text="Left empty, one is made. An image that has this id is replaced.",
        widget=forms.TextInput(attrs={"class": "vLargeTextField"}),
    )
    metadata = MetadataField(required=False)

    def clean(self) -> dict[str, Any]:
        """A picture comes from one place."""
        cleaned = super().clean() or self.cleaned_data
        if "file" in cleaned and "url" in cleaned and bool(cleaned["file"]) == bool(cleaned["url"]):
            raise forms.ValidationError("Give a file or a URL, and not both.")
        return cleaned

    def index(self) -> Written | None:
        """Index the picture of a valid form; where that fails the form says why, and there is no answer."""
        asked = self.cleaned_data
        collection: models.Collection = asked["collection"]
        try:
            return catalogue.image_put(
                caller=Caller(collection.tenant),
                collection=collection.name,
                source=FromUpload(asked["file"]) if asked["file"] else FromUrl(asked["url"]),
                image_id=asked["external_id"] or None,
                metadata=asked["metadata"],
            )
        except (ServiceError, MatchingError, IntakeError) as exc:
            self.add_error(None, str(exc))
            return None


class CollectionForm(forms.ModelForm):
    """A new collection."""

    tenant = forms.CharField(
        max_length=64,
        initial=access.DEFAULT_TENANT,
        help_text="Whose collection it is; API keys of the same tenant see it.",
    )

    class Meta:
        model = models.Collection
        fields = ("name", "tenant")

    def clean_name(self) -> str:
        """The name, if a collection can have it."""
        name: str = self.cleaned_data["name"]
        try:
            catalogue.check_name(name)
        except InvalidInput as exc:
            raise forms.ValidationError(str(exc)) from exc
        return name

    def clean(self) -> dict[str, Any]:
        """A tenant has one collection of a name; Django cannot tell, as the rule is about those not dropped."""
        cleaned = super().clean() or self.cleaned_data
        if "name" in cleaned and "tenant" in cleaned:
            same = models.Collection.objects.filter(name=cleaned["name"], tenant=cleaned["tenant"], dropped=None)
            if same.exists():
                raise forms.ValidationError("This tenant has a collection of that name already.")
        return cleaned


NO_PLAN = "no plan"


class KeyForm(forms.ModelForm):
    """A new API key."""

    name = forms.CharField(max_length=128, help_text="Who or what uses the key.")
    tenant = forms.CharField(
        max_length=64,
        initial=access.DEFAULT_TENANT,
        help_text="The key sees the collections of this tenant alone.",
    )

    plan = forms.ModelChoiceField(
        models.Plan.objects.order_by("name"),
        required=False,
        empty_label=NO_PLAN,
        initial=lambda: models.Plan.objects.filter(name=access.UNLIMITED).first(),
        help_text="How many calls to /v1 and /v2 the key may make; without an active plan they are answered with 402.",
    )

    class Meta:
        model = models.ApiKey
        fields = ("name", "tenant", "plan")


class KeyActionForm(ActionForm):
    """What to do with the selected keys, and the plan to which `Change plan` moves them."""

    plan = forms.ModelChoiceField(models.Plan.objects.order_by("name"), required=False, empty_label=NO_PLAN)


class DistanceForm(forms.Form):
    """How far an image may be from another one to be called similar."""

    max_distance = forms.IntegerField(
        label="Largest distance", min_value=0, max_value=PDQ_FINGERPRINT.bits, required=False
    )

    def __init__(self, data: Any = None) -> None:
        given = {"max_distance": (data or {}).get("max_distance", PDQ_FINGERPRINT.default_radius)}
        super().__init__(given)

    @property
    def radius(self) -> int | None:
        """The distance asked for, None where it is none."""
        if not self.is_valid():
            return None
        found = self.cleaned_data["max_distance"]
        return PDQ_FINGERPRINT.default_radius if found is None else found
