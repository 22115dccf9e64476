"""The raw probe: scripts of :mod:`rig.dtls.client` on UDP sockets, and CoAP messages that need not be right.

Verdicts on handshakes and messages come from here: what a stack underneath would repeat, hide or mend is in the
script or it does not happen.
"""

from rig.coap.probe.hello import HelloAnswer as HelloAnswer
from rig.coap.probe.hello import answers as answers
from rig.coap.probe.hello import first_answer as first_answer
from rig.coap.probe.hello import last_answer as last_answer
from rig.coap.probe.hello import leave as leave
from rig.coap.probe.observing import NotObserved as NotObserved
from rig.coap.probe.observing import Observation as Observation
from rig.coap.probe.outcome import Outcome as Outcome
from rig.coap.probe.outcome import attempt as attempt
from rig.coap.probe.prober import NoProofOfLife as NoProofOfLife
from rig.coap.probe.prober import Prober as Prober
from rig.coap.probe.session import NotCoap as NotCoap
from rig.coap.probe.session import ProbeSession as ProbeSession
from rig.coap.probe.session import Said as Said
from rig.coap.probe.session import next_message_id as next_message_id
from rig.coap.probe.session import request as request
from rig.coap.probe.wire import GroupWire as GroupWire
from rig.coap.probe.wire import Transcript as Transcript
from rig.coap.probe.wire import Wire as Wire
from rig.coap.probe.wire import run_together as run_together
from rig.coap.probe.witness import witness as witness
