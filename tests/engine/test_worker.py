"""scratch"""
import time
from tests.engine.rig import Rig, mail, INFO

async def test_smoke(database_url):
    t=time.monotonic()
    async with Rig(database_url) as rig:
        t2=time.monotonic()
        octets=[mail(n) for n in range(20)]
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        assert sorted(rig.delivered()) == sorted(octets)
        await rig.poll()
        assert rig.provider.uidls("info") == []
        t3=time.monotonic()
    print(t2-t,t3-t2,time.monotonic()-t3)
