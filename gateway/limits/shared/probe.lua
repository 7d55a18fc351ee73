-- Does once what the gateway's scripts do, to a key of its own that is gone again at the end.
redis.call('TIME')
redis.call('HSET', KEYS[1], 'f', '1')
redis.call('PEXPIRE', KEYS[1], 1000)
redis.call('HGETALL', KEYS[1])
redis.call('HLEN', KEYS[1])
redis.call('HDEL', KEYS[1], 'f')
return 'ok'
