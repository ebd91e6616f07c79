//! What has to happen at once in Redis, as scripts: nothing comes between their commands.

/// First, so many tasks with their keys and tokens, each of which has to be the one that is there; then commands, each as the
/// number of its parts and these. Returns nothing, or which task is another's, and whose. What a script has done is not undone when
/// it fails, so whatever could fail is looked at before anything is written.
pub(super) const COMMIT: &str = "
local at = 1
local function part()
  at = at + 1
  return ARGV[at - 1]
end
for task = 1, tonumber(part()) do
  local key, token = part(), part()
  if redis.call('HGET', key, 'token') ~= token then
    return {task, redis.call('HGET', key, 'owner') or 'nobody', redis.call('HGET', key, 'epoch') or '0'}
  end
end
local first = at
while at <= #ARGV do
  local count = tonumber(part())
  local kind = string.sub(ARGV[at], 1, 1) == 'H' and 'hash' or 'set'
  local is = redis.call('TYPE', ARGV[at + 1]).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE ' .. ARGV[at + 1] .. ' is a ' .. is .. ' and has to be a ' .. kind)
  end
  at = at + count
end
at = first
while at <= #ARGV do
  local count = tonumber(part())
  redis.call(unpack(ARGV, at, at + count - 1))
  at = at + count
end
return {}
";

/// KEYS: the set of the tasks' keys, that of the rows' keys, the positions. ARGV: a token that nobody has, and positions.
pub(super) const RESET: &str = "
for _, task in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  redis.call('HINCRBY', task, 'epoch', 1)
  redis.call('HSET', task, 'owner', 'a reset', 'token', ARGV[1])
end
for _, rows in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.call('UNLINK', rows)
end
redis.call('DEL', KEYS[2], KEYS[3])
for at = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
end
return 1
";

/// A script's `unpack` takes some thousands; a command of more parts is told in several.
const MOST: usize = 2_000;

/// Commands for [`COMMIT`].
#[derive(Default)]
pub(super) struct Commands {
    parts: Vec<Vec<u8>>,
}

impl Commands {
    /// `command key …`, as often as it takes; `items` come in groups that stay together.
    pub fn push(&mut self, command: &str, key: &[u8], items: &[Vec<u8>]) {
        for some in items.chunks(MOST) {
            self.parts.push((some.len() + 2).to_string().into_bytes());
            self.parts.push(command.as_bytes().to_vec());
            self.parts.push(key.to_vec());
            self.parts.extend_from_slice(some);
        }
    }

    pub fn parts(&self) -> &[Vec<u8>] {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_not_torn_and_nothing_is_no_command() {
        let mut commands = Commands::default();
        commands.push("HDEL", b"k", &[]);
        assert!(commands.parts().is_empty());
        let items = vec![b"x".to_vec(); 2 * MOST + 2];
        commands.push("HSET", b"k", &items);
        let counts = [MOST + 2, MOST + 2, 4];
        let mut at = 0;
        for count in counts {
            assert_eq!(commands.parts()[at], count.to_string().as_bytes());
            at += count + 1;
        }
        assert_eq!((at, MOST % 2), (commands.parts().len(), 0));
    }
}
