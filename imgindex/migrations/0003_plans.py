"""Plans, the meters that hold keys to them, usage by day; the documented plans as rows."""

import django.db.models.deletion
from django.db import migrations, models

PLANS = {
    # Statement 13: calls a month, calls a second.
    "free": (1_560, 2),
    "starter": (31_000, 8),
    "pro": (188_000, 20),
    "mega": (960_000, 50),
    # Of keys made without naming a plan, and of calls without a key: counted, not limited.
    "unlimited": (None, None),
    "anonymous": (None, None),
}


def create(apps, schema_editor):
    plan = apps.get_model("imgindex", "Plan")
    for name, (monthly, per_second) in PLANS.items():
        plan.objects.get_or_create(name=name, defaults={"monthly": monthly, "per_second": per_second})
    # What a key could do so far it can do still.
    unlimited = plan.objects.get(name="unlimited")
    apps.get_model("imgindex", "ApiKey").objects.filter(plan=None).update(plan=unlimited)


class Migration(migrations.Migration):
    dependencies = [("imgindex", "0002_default_collection")]

    operations = [
        migrations.CreateModel(
            name="Plan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64, unique=True)),
                ("monthly", models.PositiveBigIntegerField(blank=True, null=True, verbose_name="calls a month")),
                ("per_second", models.PositiveIntegerField(blank=True, null=True, verbose_name="calls a second")),
                ("active", models.BooleanField(default=True)),
            ],
        ),
        migrations.AddField(
            model_name="apikey",
            name="plan",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, to="imgindex.plan"
            ),
        ),
        migrations.CreateModel(
            name="Meter",
            fields=[
                ("account", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("second", models.DateTimeField()),
                ("in_second", models.BigIntegerField()),
                ("in_month", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Usage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("account", models.CharField(max_length=64)),
                ("day", models.DateField()),
                ("calls", models.BigIntegerField()),
            ],
            options={
                "verbose_name_plural": "usage",
                "indexes": [models.Index(fields=["day"], name="usage_day")],
                "constraints": [models.UniqueConstraint(fields=["account", "day"], name="usage_of_a_day")],
            },
        ),
        # Every call updates its rows in place; room in the page keeps that off the indexes.
        migrations.RunSQL(
            "ALTER TABLE imgindex_meter SET (fillfactor = 50); ALTER TABLE imgindex_usage SET (fillfactor = 70)",
            migrations.RunSQL.noop,
        ),
        migrations.RunPython(create, migrations.RunPython.noop),
    ]
