"""Keys and plans: who is let in, with what answer (statement 11), as whom, and what the admin can do about it."""

import importlib
import io
import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from imgindex import models
from imgindex.admin.charts import HEIGHT, chart
from imgindex.api import errors
from imgindex.api.auth import KeyAuthentication, KeyOrAnonymous, KeyRequired, caller_of
from imgindex.api.client import UNKNOWN, address_of
from imgindex.api.v3.usage import Usage
from imgindex.services import access
from imgindex.types import Caller, InvalidInput, KeyMissing

pytestmark = [pytest.mark.usefixtures("plans"), pytest.mark.urls(__name__)]

KEYS = "/admin/imgindex/apikey/"


@pytest.fixture
def plans(default_collection: None) -> None:
    """The documented plans, which a committed database loses between tests."""
    from django.apps import apps

    importlib.import_module("imgindex.migrations.0003_plans").create(apps, None)


def test_13_an_administrator_edits_a_plan() -> None:
    User.objects.create_superuser("chief", password="secret")
    client = Client()
    assert client.login(username="chief", password="secret")
    free = models.Plan.objects.get(name="free")
    page = f"/admin/imgindex/plan/{free.pk}/change/"
    assert client.post(page, {"name": "free", "monthly": 7, "per_second": 3, "active": "on"}).status_code == 302
    free.refresh_from_db()
    assert (free.monthly, free.per_second) == (7, 3)


class _View(APIView):
    def get(self, request: Request) -> Response:
        return Response({"tenant": caller_of(request).tenant})


class Required(_View):
    authentication_classes = (KeyRequired,)


class Keyless(_View):
    authentication_classes = (KeyOrAnonymous,)


class Free(_View):
    authentication_classes = (KeyAuthentication,)


class OwnErrors(Required):
    """A document with errors of its own form."""

    def get_exception_handler(self) -> Any:
        return lambda error, context: Response({"sorry": True}, status=errors.problem_of(error).status)


def _urls() -> list[Any]:
    from imgindex.urls import urlpatterns as service

    views = {"required": Required, "keyless": Keyless, "free": Free, "own": OwnErrors, "usage": Usage}
    return [*(path(name, view.as_view()) for name, view in views.items()), *service]


urlpatterns = _urls()


def ask(where: str, key: str | None = None, **headers: str) -> Any:
    given = {} if key is None else {"x-api-key": key}
    return Client().get(f"/{where}", headers={**given, **headers})


def limit(plan: str, *, monthly: int | None = None, per_second: int | None = None) -> None:
    models.Plan.objects.update_or_create(name=plan, defaults={"monthly": monthly, "per_second": per_second})


def calls(account: str) -> int:
    return sum(models.Usage.objects.filter(account=account).values_list("calls", flat=True))


# Plans


def test_13_the_documented_plans_are_rows() -> None:
    rows = models.Plan.objects.filter(active=True).values_list("name", "monthly", "per_second")
    assert {name: (monthly, per_second) for name, monthly, per_second in rows} == {
        "free": (1_560, 2),
        "starter": (31_000, 8),
        "pro": (188_000, 20),
        "mega": (960_000, 50),
        "unlimited": (None, None),
        "anonymous": (None, None),
    }


def test_keys_from_before_plans_are_unlimited() -> None:
    models.ApiKey.objects.create(prefix="ix_old", digest="0" * 64, name="old", tenant="default")
    from django.apps import apps

    importlib.import_module("imgindex.migrations.0003_plans").create(apps, None)
    assert models.ApiKey.objects.get(prefix="ix_old").plan.name == "unlimited"


def test_a_key_made_without_a_plan_is_unlimited_even_if_the_row_is_gone() -> None:
    models.Plan.objects.all().delete()
    key = access.create_key(name="k")
    answer = ask("required", key)
    assert answer.status_code == 200
    assert "RateLimit-Limit" not in answer


def test_create_key_takes_a_plan() -> None:
    out = io.StringIO()
    call_command("create_key", "mine", "--plan", "pro", stdout=out)
    assert models.ApiKey.objects.get().plan.name == "pro"
    assert ask("required", out.getvalue().strip())["RateLimit-Limit"] == "188000"
    with pytest.raises(CommandError, match=r"no plan 'gold'; there are: anonymous, free, mega, pro"):
        call_command("create_key", "mine", "--plan", "gold")
    assert models.ApiKey.objects.count() == 1


# Statement 11: every answer


def test_statement_11_no_key_a_wrong_one_and_a_revoked_one_are_401() -> None:
    key = access.create_key(name="k", plan="free")
    for where in ("required", "keyless"):
        with override_settings(OPEN_ACCESS=where == "required"):
            missing = ask(where)
        assert (missing.status_code, missing.json()["code"]) == (401, "key_required")
        assert missing["WWW-Authenticate"] == "Bearer"
        for wrong in (key[:-1] + ("a" if key[-1] != "a" else "b"), key[:12], "x", "\xff", "ix_\0"):
            answer = ask(where, wrong)
            assert (answer.status_code, answer.json()["code"]) == (401, "key_unknown"), wrong
            assert "RateLimit-Limit" not in answer
    assert models.Usage.objects.count() == 0
    assert ask("required", key).status_code == 200
    access.revoke_key(prefix=access.prefix_of(key))
    refused = ask("required", key)
    assert (refused.status_code, refused.json()["code"]) == (401, "key_unknown")
    assert sum(models.Usage.objects.values_list("calls", flat=True)) == 1


@pytest.mark.parametrize("name", ["x-api-key", "x-oanor-key", "Token", "Bearer", "bearer"])
def test_statement_11_where_the_key_may_stand(name: str) -> None:
    key = access.create_key(name="k", tenant="acme")
    header = {name: key} if name.startswith("x-") else {"Authorization": f"{name} {key}"}
    answer = ask("required", **header)
    assert (answer.status_code, answer.json()) == (200, {"tenant": "acme"})


def test_statement_11_no_active_plan_is_402_where_calls_are_metered() -> None:
    without, closed = access.create_key(name="a", plan=None), access.create_key(name="b", plan="pro")
    models.Plan.objects.filter(name="pro").update(active=False)
    for key in (without, closed):
        for where in ("required", "keyless"):
            answer = ask(where, key)
            assert (answer.status_code, answer.json()["code"]) == (402, "plan_required")
        assert ask("free", key).status_code == 200
    assert models.Usage.objects.count() == 0
    models.Plan.objects.filter(name="pro").update(active=True)
    assert ask("required", closed).status_code == 200


def test_statement_11_the_monthly_quota_is_429() -> None:
    limit("small", monthly=2)
    key = access.create_key(name="k", plan="small")
    answers = [ask("required", key) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["1", "0", "0", "0"]
    assert {answer["RateLimit-Limit"] for answer in answers} == {"2"}
    assert answers[3].json()["code"] == "quota_exceeded"
    now = datetime.now(UTC)
    following = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert int(answers[3]["Retry-After"]) == pytest.approx((following - now).total_seconds(), abs=5)
    assert answers[3]["Retry-After"] == answers[3]["RateLimit-Reset"]
    assert "Retry-After" not in answers[0]
    assert calls(f"key:{models.ApiKey.objects.get().pk}") == 2


def test_statement_11_the_rate_is_429_with_a_whole_second_to_wait() -> None:
    limit("slow", per_second=0, monthly=10)
    key = access.create_key(name="k", plan="slow")
    answer = ask("required", key)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    headers = [answer[name] for name in ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After")]
    assert headers == ["0", "0", "1", "1"]
    assert models.Usage.objects.count() == 0


def test_the_headers_come_with_errors_of_any_form() -> None:
    limit("small", monthly=0)
    answer = ask("own", access.create_key(name="k", plan="small"))
    assert (answer.status_code, answer.json()) == (429, {"sorry": True})
    assert int(answer["Retry-After"]) >= 1


def test_a_changed_plan_counts_from_the_next_call_on() -> None:
    limit("small", monthly=1)
    key = access.create_key(name="k", plan="small")
    assert [ask("required", key).status_code for _ in range(2)] == [200, 429]
    access.change_plan(prefix=access.prefix_of(key), plan="pro")
    answer = ask("required", key)
    assert (answer.status_code, answer["RateLimit-Remaining"]) == (200, str(188_000 - 2))
    access.change_plan(prefix=access.prefix_of(key), plan=None)
    assert ask("required", key).status_code == 402
    with pytest.raises(InvalidInput):
        access.change_plan(prefix=access.prefix_of(key), plan="gold")


def test_a_hostile_key_opens_nothing() -> None:
    access.create_key(name="k")
    models.ApiKey.objects.update(prefix="x' OR '1'='1")
    assert ask("required", "x' OR '1'='1' --").status_code == 401


# Calls without a key


def test_keyless_calls_are_not_limited_until_somebody_says_so() -> None:
    for _ in range(3):
        answer = ask("keyless")
        assert (answer.status_code, answer.json()) == (200, {"tenant": "default"})
        assert "RateLimit-Limit" not in answer
    assert calls(f"client:{access.client_hash('127.0.0.1')}") == 3
    models.Plan.objects.filter(name="anonymous").delete()
    assert ask("keyless").status_code == 200
    assert "127.0.0.1" not in str(list(models.Usage.objects.values()) + list(models.Meter.objects.values()))


def test_each_client_address_has_the_anonymous_plan_to_itself() -> None:
    limit("anonymous", monthly=2)
    for address in ("203.0.113.1", "203.0.113.2"):
        statuses = [Client(REMOTE_ADDR=address).get("/keyless").status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
    key = access.create_key(name="k", plan="pro")
    answer = Client(REMOTE_ADDR="203.0.113.1").get("/keyless", headers={"x-api-key": key})
    assert (answer.status_code, answer["RateLimit-Limit"]) == (200, "188000")


def test_an_inactive_anonymous_plan_closes_keyless_calls() -> None:
    models.Plan.objects.filter(name="anonymous").update(active=False)
    assert ask("keyless").status_code == 401
    with pytest.raises(KeyMissing):
        access.admit(key=None, address="203.0.113.1")


# Which client


def client_of(peer: str, trusted: str = "10.0.0.0/8,fd00::/8", **headers: str) -> str:
    meta = {f"HTTP_{name.upper()}": text for name, text in headers.items()}
    with override_settings(TRUSTED_PROXIES=[ip_network(text) for text in trusted.split(",") if text]):
        return address_of(RequestFactory().get("/", REMOTE_ADDR=peer, **meta))


def test_forwarded_addresses_count_from_trusted_proxies_only() -> None:
    forged = "198.51.100.9"
    assert client_of("203.0.113.1", x_forwarded_for=forged, x_real_ip=forged) == "203.0.113.1"
    assert client_of("10.0.0.1", "", x_forwarded_for=forged, x_real_ip=forged) == "10.0.0.1"
    assert client_of("10.0.0.1", x_forwarded_for="203.0.113.1") == "203.0.113.1"
    assert client_of("10.0.0.1", x_real_ip="203.0.113.1") == "203.0.113.1"
    assert client_of("10.0.0.1") == "10.0.0.1"


def test_what_a_client_writes_to_the_left_counts_for_nothing() -> None:
    for forged in ("198.51.100.9", "10.0.0.7", "127.0.0.1", "x", "", "unknown, 198.51.100.9"):
        chain = f"{forged}, 203.0.113.1, 10.0.0.2"
        assert client_of("10.0.0.1", x_forwarded_for=chain, x_real_ip=forged) == "203.0.113.1"


def test_a_chain_of_nothing_but_proxies_and_nonsense() -> None:
    assert client_of("10.0.0.1", x_forwarded_for="10.0.0.3, 10.0.0.2") == "10.0.0.3"
    assert client_of("10.0.0.1", x_forwarded_for="203.0.113.1, nonsense, 10.0.0.2") == "10.0.0.2"
    assert client_of("10.0.0.1", x_forwarded_for="nonsense") == "10.0.0.1"
    assert client_of("10.0.0.1", x_forwarded_for=" ", x_real_ip="203.0.113.1") == "203.0.113.1"
    assert client_of("10.0.0.1", x_real_ip="nonsense") == "10.0.0.1"
    assert client_of("") == UNKNOWN


def test_forms_of_one_address_are_one_client() -> None:
    for text in ("203.0.113.1", "203.0.113.1:4711", "::ffff:203.0.113.1", "[::ffff:203.0.113.1]:80"):
        assert client_of("10.0.0.1", x_forwarded_for=text) == "203.0.113.1"
    assert client_of("::ffff:10.0.0.1", x_forwarded_for="203.0.113.1") == "203.0.113.1"


def test_ipv6_clients_are_counted_by_their_64() -> None:
    one = {client_of(f"2001:db8:1:2:{n:x}::1") for n in (0, 1, 0xFFFF)}
    assert one == {"2001:db8:1:2::/64"}
    assert client_of("[2001:db8:1:2::9]:443") == "2001:db8:1:2::/64"
    assert client_of("2001:db8:1:3::1") == "2001:db8:1:3::/64"
    assert client_of("fe80::1%eth0") == "fe80::/64"


def test_forged_headers_gain_no_calls() -> None:
    limit("anonymous", monthly=2)
    client = Client(REMOTE_ADDR="203.0.113.1")
    statuses = [
        client.get("/keyless", headers={"X-Forwarded-For": f"198.51.100.{n}", "X-Real-IP": f"198.51.100.{n}"})
        for n in range(4)
    ]
    assert [answer.status_code for answer in statuses] == [200, 200, 429, 429]
    with override_settings(TRUSTED_PROXIES=[ip_network("203.0.113.1")]):
        chains = [f"198.51.100.{n}, 192.0.2.1" for n in range(4)]
        behind = [client.get("/keyless", headers={"X-Forwarded-For": chain}).status_code for chain in chains]
    assert behind == [200, 200, 429, 429]


# GET /v3/usage


def test_usage_tells_the_plan_the_month_and_the_days() -> None:
    key = access.create_key(name="k", plan="free")
    account = f"key:{models.ApiKey.objects.get().pk}"
    today = datetime.now(UTC).date()
    models.Usage.objects.create(account=account, day=today - timedelta(days=29), calls=7)
    models.Usage.objects.create(account=account, day=today - timedelta(days=30), calls=9)
    for _ in range(2):
        assert ask("required", key).status_code == 200
    body = ask("usage", key).json()
    assert body["plan"] == {"name": "free", "active": True, "calls_per_month": 1560, "calls_per_second": 2}
    assert body["month"] == {"month": f"{today:%Y-%m}", "calls": 2, "remaining": 1558}
    assert len(body["days"]) == 30
    assert body["days"][0] == {"day": str(today - timedelta(days=29)), "calls": 7}
    assert body["days"][-1] == {"day": str(today), "calls": 2}
    assert ask("usage", "wrong").status_code == 401


def test_usage_without_a_key_and_without_a_plan() -> None:
    ask("keyless")
    body = ask("usage").json()
    assert (body["plan"]["name"], body["month"]["calls"], body["month"]["remaining"]) == ("anonymous", 1, None)
    with override_settings(OPEN_ACCESS=False):
        assert ask("usage").status_code == 401
    assert ask("usage", access.create_key(name="k", plan=None)).json()["plan"] is None


# The admin


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="secret"))
    return client


def test_the_admin_makes_a_key_on_a_plan(staff: Client) -> None:
    form = staff.get(f"{KEYS}add/").context["adminform"].form
    assert form.get_initial_for_field(form.fields["plan"], "plan").name == "unlimited"
    pro = models.Plan.objects.get(name="pro")
    data = {"name": "k", "tenant": "acme", "plan": pro.pk}
    page = staff.post(f"{KEYS}add/", data, follow=True).content.decode()
    [key] = re.findall(r"ix_[0-9a-f]{8}_[\w-]{43}", page)
    answer = ask("required", key)
    assert (answer.json(), answer["RateLimit-Limit"]) == ({"tenant": "acme"}, "188000")
    assert ">pro<" in staff.get(KEYS).content.decode()


def test_the_admin_moves_keys_to_another_plan(staff: Client) -> None:
    keys = [access.create_key(name=name) for name in "abc"]
    rows = {row.name: row.pk for row in models.ApiKey.objects.all()}
    free = models.Plan.objects.get(name="free")
    action = {"action": "change_plan", "_selected_action": [rows["a"], rows["b"]]}
    page = staff.post(KEYS, {**action, "plan": free.pk}, follow=True).content.decode()
    assert "2 keys are on the plan free now." in page
    assert "RateLimit-Limit" not in ask("required", keys[2])
    assert [ask("required", key)["RateLimit-Limit"] for key in keys[:2]] == ["1560", "1560"]
    page = staff.post(KEYS, {"action": "change_plan", "_selected_action": rows["a"], "plan": ""}, follow=True)
    assert "1 key is on no plan now." in page.content.decode()
    assert ask("required", keys[0]).status_code == 402
    staff.post(KEYS, {"action": "change_plan", "_selected_action": rows["b"], "plan": "nonsense"})
    assert models.ApiKey.objects.get(name="b").plan == free


def test_the_admin_edits_plans_and_the_next_call_knows(staff: Client) -> None:
    key = access.create_key(name="k", plan="free")
    free = models.Plan.objects.get(name="free")
    address = f"/admin/imgindex/plan/{free.pk}/change/"
    assert staff.get(address).status_code == 200
    answer = staff.post(address, {"name": "renamed", "monthly": "5", "per_second": "", "active": "on"})
    assert answer.status_code == 302
    free.refresh_from_db()
    assert (free.name, free.monthly, free.per_second) == ("free", 5, None)
    assert ask("required", key)["RateLimit-Limit"] == "5"
    assert staff.post(address, {"monthly": "-1", "active": "on"}).status_code == 200
    page = staff.post(f"/admin/imgindex/plan/{free.pk}/delete/", {"post": "yes"}, follow=True).content.decode()
    assert "Cannot delete plan" in page
    assert models.Plan.objects.filter(name="free").exists()


def test_the_chart_of_a_key_and_of_all(staff: Client) -> None:
    key, other = access.create_key(name="busy one"), access.create_key(name="other")
    for asked in (key, key, key, other):
        ask("required", asked)
    ask("keyless")
    row, today = models.ApiKey.objects.get(name="busy one"), datetime.now(UTC).date()
    page = staff.get(f"{KEYS}{row.pk}/change/").content.decode()
    assert f"<title>{today}: 3</title>" in page
    assert page.count('<rect class="calls"') == 30
    everything = staff.get("/admin/imgindex/usage/").content.decode()
    assert f"<title>{today}: 5</title>" in everything
    assert f"busy one ({row.prefix}...)" in everything
    assert f"client {access.client_hash('127.0.0.1')}" in everything
    for text in (page, everything):
        [svg] = re.findall(r"<section class=\"module usage\".*?</section>", text, re.DOTALL)
        assert not re.search(r"style=|<script|onclick|onload", svg)


def test_usage_is_looked_at_and_not_changed(staff: Client) -> None:
    ask("keyless")
    row = models.Usage.objects.get()
    for page in ("add/", f"{row.pk}/delete/"):
        assert staff.get(f"/admin/imgindex/usage/{page}").status_code == 403
    assert staff.post(f"/admin/imgindex/usage/{row.pk}/change/", {"calls": 9}).status_code == 403
    staff.post("/admin/imgindex/usage/", {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert models.Usage.objects.get().calls == 1


def test_the_admin_copes_with_odd_addresses(staff: Client) -> None:
    for odd in ("99999999999999999999", "x", "999", "²"):
        assert staff.get(f"{KEYS}{odd}/change/").status_code == 302


def test_the_bars_of_a_chart() -> None:
    today = datetime(2026, 3, 1, tzinfo=UTC).date()
    drawn = chart([(today, 0), (today, 1), (today, 1000)])
    assert [bar.height for bar in drawn.bars] == [0, 1, HEIGHT]
    assert [bar.y + bar.height for bar in drawn.bars] == [HEIGHT] * 3
    assert (drawn.most, drawn.total) == (1000, 1001)
    assert chart([(today, 0)]).most == 0


def test_a_count_waits_for_no_disk_flush() -> None:
    from django.db import transaction

    key = access.create_key(name="k")
    with transaction.atomic(), connection.cursor() as cursor:
        access.admit_key(key=key)
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("off",)
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() != ("off",)
    assert access.caller(key=key) == Caller("default")


@pytest.mark.parametrize("kind", ["plan", "apikey", "image", "collection"])
def test_an_action_on_ids_that_make_no_sense_is_no_fault_of_ours(kind: str) -> None:
    User.objects.create_superuser("chief", password="secret")
    client = Client()
    assert client.login(username="chief", password="secret")
    action = {"action": "delete_selected", "_selected_action": "abc", "post": "yes", "index": "0"}
    assert client.post(f"/admin/imgindex/{kind}/", action, follow=True).status_code == 200
