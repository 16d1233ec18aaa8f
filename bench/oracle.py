"""Nobody learns from an answer what we hold about an address: equal answers, equally fast."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

from flask.testing import FlaskClient

from bench import servers
from bench.measuring import Figure, Settings, at_most
from signup.app import create_app
from signup.contacts import actions as contacts
from signup.core.config import Config
from signup.core.db import Session, database, transaction
from signup.core.signing import TOKEN_BYTES
from signup.core.values import ClientInfo, EmailAddress, utc_now
from signup.forms import actions as forms
from signup.subscriptions import answers, endings, presses, questions, requests
from signup.subscriptions.states import EndReason
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
