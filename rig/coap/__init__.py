"""The coaps client for tests: synchronous verbs over aiocoap and DTLSSocket, which run in a process of their own.

Importing this package is cheap: the libraries are loaded in the worker process only.
"""

from rig.coap.client import CoapClient as CoapClient
from rig.coap.errors import AlertReceived as AlertReceived
from rig.coap.errors import BadPayload as BadPayload
from rig.coap.errors import ClientCrashed as ClientCrashed
from rig.coap.errors import ClientError as ClientError
from rig.coap.errors import ConnectionRefused as ConnectionRefused
from rig.coap.errors import ConnectTimeout as ConnectTimeout
from rig.coap.errors import HostUnreachable as HostUnreachable
from rig.coap.errors import LocalNetworkError as LocalNetworkError
from rig.coap.errors import NoAnswer as NoAnswer
from rig.coap.errors import NotificationTimeout as NotificationTimeout
from rig.coap.errors import NotObservable as NotObservable
from rig.coap.errors import ObservationEnded as ObservationEnded
from rig.coap.errors import ProtocolError as ProtocolError
from rig.coap.errors import RequestTimeout as RequestTimeout
from rig.coap.errors import ResetReceived as ResetReceived
from rig.coap.errors import SessionDead as SessionDead
from rig.coap.observation import Observation as Observation
from rig.coap.session import Session as Session
from rig.coap.values import Notification as Notification
from rig.coap.values import Response as Response
