"""Selects the current user four times, more than an expiry apart, in Django's connections: with the backend of
lakebase_token.django, or with the pool of Django 5.1 if POOL is set."""

import os
import time

import django
from django.conf import settings
from django.db import connection

import lakebase_token

options = {"sslmode": "require"}
if os.environ.get("POOL"):
    # With a pool, the class of its connections asks.
    options["pool"] = {
        "connection_class": lakebase_token.connection_class(),
        "min_size": 0,
        "max_size": 1,
        "max_lifetime": 0.1,
        "timeout": 3,
    }
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql" if os.environ.get("POOL") else "lakebase_token.django",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "OPTIONS": options,
        }
    }
)
django.setup()
for n in range(4):
    if n > 0:
        time.sleep(2.1)
    try:
        with connection.cursor() as cursor:
            cursor.execute("select current_user")
            print(cursor.fetchone()[0])
    except Exception:
        lakebase_token.password()  # raises the error of lakebase-token, which a pool hides
        raise
    connection.close()
