"""Runs on many machines: DBOS Transact on PostgreSQL.

    async with Cluster("postgresql://...") as cluster:
        run_id = await cluster.submit("package.module:team", "the task")
        result = await cluster.result(run_id)

while `pyagent worker --database-url postgresql://...`, on any number of machines that can import
the team, does the work. It needs `pip install "pyagent-sdk[dbos]"`.
"""

try:
    from .cluster import Cluster
    from .questions import Limit
except ModuleNotFoundError as missing:
    if missing.name not in ("dbos", "psycopg"):
        raise
    raise ImportError('a cluster needs DBOS: pip install "pyagent-sdk[dbos]"') from missing

__all__ = ["Cluster", "Limit"]
