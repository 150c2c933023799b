"""What BigBrotr's service does in one cycle, with asyncpg."""

import logging
import time

import asyncpg

logger = logging.getLogger("refresher")


class Service:
    """A pool of connections, and a list of views that it refreshes."""

    def __init__(self, pool, views):
        self.pool = pool
        self.views = views

    @classmethod
    async def create(cls, host, role, database, views):
        pool = await asyncpg.create_pool(
            host=str(host), user=role, database=database, min_size=1)
        return cls(pool, views)

    async def close(self):
        await self.pool.close()

    async def cycle(self):
        """One SELECT a view, in a transaction of its own."""
        refreshed = failed = 0
        logger.info("cycle_started views=%d", len(self.views))
        for view in self.views:
            start = time.monotonic()
            try:
                async with self.pool.acquire() as connection:
                    async with connection.transaction():
                        await connection.execute(f"SELECT {view}_refresh()")
            except (asyncpg.PostgresError, OSError) as error:
                failed += 1
                logger.error("view_refresh_failed view=%s error=%s",
                             view, error)
            else:
                refreshed += 1
                logger.info("view_refreshed view=%s duration=%.2f",
                            view, time.monotonic() - start)
        logger.info("cycle_completed refreshed=%d failed=%d",
                    refreshed, failed)
        return failed
