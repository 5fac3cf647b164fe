# The names of `streamll.serve` for type checkers; a test compares them with `__init__.py`.

from streamll.serve.app import create_app as create_app
from streamll.serve.permits import Permit as Permit
from streamll.serve.permits import RunFacts as RunFacts
from streamll.serve.programs import Served as Served
from streamll.serve.routes.embedded import cancel_run as cancel_run
from streamll.serve.routes.embedded import sse_response as sse_response
from streamll.serve.routes.embedded import websocket_stream as websocket_stream
from streamll.serve.routes.open_streams import shutdown as shutdown
from streamll.serve.web.access import run_token as run_token
from streamll.serve.web.limits import Limits as Limits
from streamll.serve.web.requests import bearer_token as bearer_token
