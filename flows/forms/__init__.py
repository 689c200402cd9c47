"""What each flow asks for: one module a flow, its fields checked as settings are.

The same class is the form in Prefect's UI, the options of ``python -m flows.NAME`` and the
parameter of the deployed flow. A form knows nothing of Prefect: it turns what was chosen into a
:class:`~flows.request.Request`, and refuses what cannot be done.
"""
