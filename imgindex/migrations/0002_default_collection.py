"""The collection `default` of the tenant `default`, which keyless callers and the documented systems use."""

import secrets

from django.db import migrations


def create(apps, schema_editor):
    collection, created = apps.get_model("imgindex", "Collection").objects.get_or_create(
        tenant="default", name="default"
    )
    if created:
        apps.get_model("imgindex", "Change").objects.create(
            token=secrets.randbits(63), collection=collection.pk, op="c"
        )


class Migration(migrations.Migration):
    dependencies = [("imgindex", "0001_initial")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
