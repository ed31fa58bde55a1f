// The status page: asks /live.json once a second, and shows what it says.
//
// What servers and files are called is shown as text alone: nodes are made by `make`, which knows no HTML.
'use strict';

const EVERY = 1000; // milliseconds
const HISTORY = 300; // seconds
const MOST_EVENTS = 50;
const SVG = 'http://www.w3.org/2000/svg';

const CELLS = [
  ['c', 'cached'], ['p', 'partly cached'], ['f', 'in flight'], ['q', 'wanted'], ['w', 'a read waits'], ['m', 'missing'],
];
const PHASES = {
  queued: 'queued', connecting: 'connecting', first_byte: 'for the first byte', transferring: 'transferring',
  throttled: 'throttled', backing_off: 'backing off', tls: 'TLS handshake', disk: 'for the disk',
};

const at = (id) => document.getElementById(id);

/// An element with attributes and children; strings become text.
function make(tag, attributes, ...children) {
  const isDrawn = ['svg', 'rect', 'path', 'line', 'title', 'g'].includes(tag);
  const element = isDrawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/// Changes a text only if it is another one, so that a selection and screen readers are left alone.
function say(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

function fill(id, ...children) {
  const next = make('div', null, ...children);
  if (at(id).innerHTML !== next.innerHTML) at(id).replaceChildren(...next.childNodes);
}

function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  const digits = unit === 0 || bytes >= 100 ? 0 : 1;
  return bytes.toFixed(digits) + ' ' + units[unit];
}

function time(seconds) {
  seconds = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return days + ' d ' + hours + ' h';
  if (hours) return hours + ' h ' + minutes + ' min';
  if (minutes) return minutes + ' min ' + (seconds % 60) + ' s';
  return seconds + ' s';
}

/// Rounded down: 100 % is all of it.
function percent(part, whole) {
  return whole ? Math.floor(part / whole * 100) + ' %' : '–';
}

function count(number, word) {
  return number.toLocaleString('en') + ' ' + word + (number === 1 ? '' : 's');
}

/// A path is text, or its bytes.
function pathText(path) {
  return typeof path === 'string' ? path : new TextDecoder().decode(new Uint8Array(path));
}

// The history of the rate, and the events.

let before = null; // the last answer, with its time
const rates = []; // bytes a second, once a second
const events = [];
let known = new Map(); // failures that were shown, with their counts
let down = new Set();

function note(answer, now) {
  const status = answer.status;
  if (before && before.status.pid === status.pid && before.status.mounted_at === status.mounted_at) {
    const seconds = Math.max((now - before.now) / 1000, 0.001);
    const rate = Math.max(0, status.totals.fetched_bytes - before.status.totals.fetched_bytes) / seconds;
    // A hidden page does not ask; the time is filled with the mean.
    const steps = Math.min(HISTORY, Math.max(1, Math.round(seconds)));
    for (let step = 0; step < steps; step += 1) rates.push(rate);
    rates.splice(0, Math.max(0, rates.length - HISTORY));
  }
  before = { status, now };
}

function noteEvents(status) {
  const clock = status.mounted_at + status.mounted_for;
  const seen = new Map();
  for (const failure of [...status.failures].reverse()) {
    const key = JSON.stringify([failure.operation, failure.url, failure.errno, failure.http_status]);
    seen.set(key, failure.count);
    if (known.get(key) === failure.count) continue;
    const times = failure.count === 1 ? '' : ' (' + count(failure.count, 'time') + ')';
    events.unshift({ at: failure.last, what: failure.errno + times + ': ' + (failure.url || '(no server)') + ': ' + failure.reason });
  }
  known = seen;
  const nowDown = new Set(status.down.map((server) => server.origin));
  for (const server of status.down) {
    if (!down.has(server.origin)) events.unshift({ at: clock - server.seconds, what: server.origin + ' is down: ' + server.reason });
  }
  for (const origin of down) {
    if (!nowDown.has(origin)) events.unshift({ at: clock, what: origin + ' responds again' });
  }
  down = nowDown;
  events.sort((one, other) => other.at - one.at);
  events.splice(MOST_EVENTS);
}

// What is shown.

function showHead(status) {
  document.title = status.mountpoint + ' – fetchfs';
  say('mountpoint', status.mountpoint);
  say('source', status.source);
  say('about', 'mounted for ' + time(status.mounted_for) + ', pid ' + status.pid);
  const trouble = status.down.length || status.cache_trouble;
  const badge = at('health');
  badge.className = 'badge ' + (trouble ? 'bad' : 'good');
  say('health', trouble ? '⚠ ' + (status.down.length ? count(status.down.length, 'server') + ' down' : 'cache bypassed') : '✓ well');
  say('program', 'fetchfs ' + status.version + ', cache in ' + status.cache_dir);
}

function showHistory() {
  const most = Math.max(0, ...rates);
  const now = rates.length ? rates[rates.length - 1] : 0;
  say('rate-now', size(now) + '/s');
  say('rate-most', size(most) + '/s');
  const points = rates.map((rate, index) => {
    const x = HISTORY - rates.length + index + 1;
    return x + ' ' + (58 - rate / Math.max(most, 1) * 54).toFixed(2);
  });
  const line = points.length > 1 ? 'M' + points.join('L') : '';
  const first = HISTORY - rates.length + 1;
  const svg = at('history');
  svg.querySelector('.line').setAttribute('d', line);
  svg.querySelector('.area').setAttribute('d', line && line + 'L' + HISTORY + ' 60L' + first + ' 60Z');
  svg.setAttribute('aria-label', size(now) + ' a second now, ' + size(most) + ' at most in ' + time(rates.length));
}

function showFigures(status) {
  const totals = status.totals;
  const reads = totals.hit_reads + totals.miss_reads;
  const bytes = totals.hit_bytes + totals.miss_bytes;
  const tile = (name, value, more, ...further) =>
    make('div', null, make('dt', null, name), make('dd', null, value, make('span', { class: 'more' }, more), ...further));
  const used = make('meter', { min: 0, max: Math.max(1, status.cache_limit), value: status.cached_bytes, 'aria-label': 'cache used' });
  const waiting = Object.entries(status.waiting.reads).map(([phase, number]) => number + ' ' + (PHASES[phase] || phase));
  if (status.waiting.names) waiting.push(count(status.waiting.names, 'name'));
  const allWaiting = Object.values(status.waiting.reads).reduce((sum, number) => sum + number, 0) + status.waiting.names;
  const unread = Math.max(0, totals.fetched_bytes - totals.used_bytes);
  fill('figures',
    tile('Cache', size(status.cached_bytes), percent(status.cached_bytes, status.cache_limit) + ' of ' + size(status.cache_limit), used),
    tile('Reads without a wait', percent(totals.hit_reads, reads), 'of ' + count(reads, 'read')),
    tile('Bytes without a wait', percent(totals.hit_bytes, bytes), 'of ' + size(bytes)),
    tile('Fetched', size(totals.fetched_bytes), size(unread) + ' not read so far'),
    tile('Evicted', size(totals.evicted_bytes), count(totals.evicted_files, 'whole file')),
    tile('Waiting', String(allWaiting), waiting.join(', ') || 'nothing waits'),
    tile('Failed reads', totals.failed_reads.toLocaleString('en'), 'since it was mounted'),
    tile('Known files', status.known_files.toLocaleString('en'), size(status.known_bytes)));
}

/// A row of cells as rectangles, with a pattern for each state: colour alone says nothing.
function cellsShown(cells, length) {
  const drawn = [];
  for (let start = 0; start < cells.length;) {
    let end = start;
    while (end < cells.length && cells[end] === cells[start]) end += 1;
    drawn.push(...shape(cells[start], start / length * 1000, (end - start) / length * 1000));
    start = end;
  }
  return drawn;
}

function shape(state, x, width) {
  const box = (y, height, kind) => make('rect', { class: kind, x: x.toFixed(1), y, width: width.toFixed(1), height });
  switch (state) {
    case 'c': return [box(0, 20, 'c')];
    case 'p': return [box(0, 20, 'm'), box(8, 12, 'p')];
    case 'f': return [box(0, 20, 'm'), box(0, 12, 'f')];
    case 'q': return [box(0, 20, 'm'), box(14, 6, 'q')];
    case 'w': return [box(0, 20, 'w'), box(8, 4, 'm')];
    default: return [box(0, 20, 'm')];
  }
}

function showFiles(status, maps) {
  const byPath = new Map(maps.map((map) => [JSON.stringify(map.path), map.cells]));
  say('files-count', '(' + status.open_file_count.toLocaleString('en') + ')');
  at('legend').hidden = status.open_files.length === 0;
  const shown = status.open_files.slice(0, 32).map((file) => {
    const cells = file.path === null ? undefined : byPath.get(JSON.stringify(file.path));
    const reader = file.process ? file.process.name + ' (pid ' + file.process.pid + ')' : 'unknown process';
    const where = file.is_passthrough ? 'the kernel reads it by itself' : 'at ' + percent(file.position, file.size) + ', read ' + size(file.read_bytes);
    const cached = percent(file.cached_bytes, file.size) + ' of ' + size(file.size) + ' cached';
    const parts = [make('h3', null, file.path === null ? file.url : pathText(file.path))];
    if (cells) {
      const drawn = cellsShown(cells, cells.length);
      if (!file.is_passthrough && file.read_bytes > 0) {
        const x = Math.min(994, file.position / Math.max(1, file.size) * 1000);
        drawn.push(make('rect', { class: 'reader', x: x.toFixed(1), y: 0, width: 6, height: 20 }));
      }
      parts.push(make('svg', { class: 'map', viewBox: '0 0 1000 20', preserveAspectRatio: 'none', role: 'img', 'aria-label': cached + ', reader ' + where }, ...drawn));
    }
    parts.push(make('p', { class: 'quiet' }, cached + ' · ' + reader + ' · ' + where));
    return make('div', { class: 'file' }, ...parts);
  });
  const more = status.open_file_count - shown.length;
  if (more > 0 && shown.length) shown.push(make('p', { class: 'quiet' }, 'and ' + count(more, 'further file')));
  if (!shown.length) shown.push(make('p', { class: 'quiet' }, 'no file is open'));
  fill('files', ...shown);
}

function cell(label, content, kind) {
  return make('td', { 'data-label': label, class: kind || '' }, typeof content === 'string' ? make('span', null, content) : content);
}

function state(isUp, word, reason) {
  const parts = [make('span', { class: 'state ' + (isUp ? 'good' : 'bad') }, (isUp ? '✓ ' : '⚠ ') + word)];
  if (reason) parts.push(make('span', { class: 'reason' }, reason));
  return make('span', null, ...parts);
}

function nothing(columns, text) {
  return make('tr', null, make('td', { colspan: columns, class: 'quiet' }, text));
}

function showOrigins(status) {
  const rows = status.origins.filter((origin) => !origin.is_tier_node).map((origin) => {
    const fault = status.down.find((server) => server.origin === origin.origin);
    const health = fault ? state(false, 'down', 'for ' + time(fault.seconds) + ': ' + fault.reason) : state(true, 'up');
    const responses = Object.entries(origin.responses).map(([code, number]) => number.toLocaleString('en') + ' × ' + code);
    if (origin.unanswered_requests) responses.push(origin.unanswered_requests.toLocaleString('en') + ' × no response');
    return make('tr', null,
      make('th', { scope: 'row' }, origin.origin),
      cell('Health', health),
      cell('Connections', origin.connections ? origin.fetches + ' of ' + origin.connections : '–', 'number'),
      cell('Latency', origin.latency_ms === null ? '–' : origin.latency_ms + ' ms', 'number'),
      cell('Rate of each', origin.connection_rate === null ? '–' : size(origin.connection_rate) + '/s', 'number'),
      cell('Waiting', String(origin.waiters), 'number'),
      cell('Responses', responses.join(', ') || '–'));
  });
  fill('origins', ...(rows.length ? rows : [nothing(7, 'no server was asked so far')]));
}

function showTier(status) {
  const tier = status.tier;
  at('tier-section').hidden = !tier;
  if (!tier) return;
  say('tier-sums', size(tier.received_bytes) + ' from it, ' + size(tier.other_received_bytes) + ' from all other servers');
  const names = (tier.names || []).map((name) => make('tr', null,
    make('th', { scope: 'row' }, name.name),
    make('td', { colspan: 7, 'data-label': 'Health' }, state(!name.error, count(name.nodes, 'node'), name.error))));
  fill('tier', ...names, ...tier.nodes.map((node) => make('tr', null,
    make('th', { scope: 'row' }, node.url),
    cell('Health', node.unused ? state(false, 'not used', node.unused) : state(true, 'used')),
    cell('Requests', node.requests.toLocaleString('en'), 'number'),
    cell('Hits', percent(node.hits, node.hits + node.misses), 'number'),
    cell('Received', size(node.received_bytes), 'number'),
    cell('99th percentile', node.p99_ms === null ? '–' : node.p99_ms + ' ms', 'number'),
    cell('Server asked too', node.hedged_requests.toLocaleString('en'), 'number'),
    cell('Failed', node.failed_requests.toLocaleString('en'), 'number'))));
}

function showPrograms(status) {
  at('programs-section').hidden = status.programs.length === 0;
  const words = { limited: 'scanner, limited', gentle: 'scanner' };
  fill('programs', ...status.programs.map((program) => make('tr', null,
    make('th', { scope: 'row' }, program.name || 'others'),
    cell('Treated as', words[program.scanner] || 'program'),
    cell('Read', size(program.read_bytes), 'number'),
    cell('Fetched for it', size(program.fetched_bytes), 'number'),
    cell('Refused reads', program.refused_reads.toLocaleString('en'), 'number'))));
}

function showSources(status) {
  const sources = status.sources || [];
  at('sources-section').hidden = sources.length === 0;
  const words = { up: 'up', down: 'down', unasked: 'not asked yet' };
  fill('sources', ...sources.map((source) => make('tr', null,
    make('th', { scope: 'row' }, '/' + source.at),
    cell('URL', source.url),
    cell('Health', source.state === 'unasked' ? words.unasked : state(source.state === 'up', words[source.state], source.reason)))));
}

function showFailures(status) {
  const clock = status.mounted_at + status.mounted_for;
  const rows = status.failures.slice(0, 20).map((failure) => make('tr', null,
    make('th', { scope: 'row' }, failure.operation + ': ' + failure.errno),
    cell('What failed', make('span', null, failure.url || '(no server)', make('span', { class: 'reason' }, failure.reason)), 'wide'),
    cell('Count', failure.count.toLocaleString('en'), 'number'),
    cell('Last', time(clock - failure.last) + ' ago', 'number')));
  fill('failures', ...(rows.length ? rows : [nothing(4, 'no program has got an error')]));
}

function showEvents(status) {
  const clock = status.mounted_at + status.mounted_for;
  const rows = events.map((event) => make('li', null,
    make('time', { datetime: new Date(event.at * 1000).toISOString() }, time(clock - event.at) + ' ago'), make('span', null, event.what)));
  fill('events', ...(rows.length ? rows : [make('li', null, make('span', { class: 'quiet' }, 'nothing has happened'))]));
}

function show(answer) {
  const status = answer.status;
  showHead(status);
  showHistory();
  showFigures(status);
  showFiles(status, answer.maps);
  showOrigins(status);
  showTier(status);
  showSources(status);
  showPrograms(status);
  showFailures(status);
  showEvents(status);
}

function showSilence(why) {
  const notice = at('silent');
  notice.hidden = why === null;
  if (why !== null) {
    say('silent', 'The mount does not answer: ' + why + '. What is below may be out of date.');
    at('health').className = 'badge bad';
    say('health', '⚠ no answer');
  }
}

async function ask() {
  try {
    const response = await fetch('live.json', { signal: AbortSignal.timeout(10000) });
    if (!response.ok) throw new Error((await response.text()).trim());
    const answer = await response.json();
    note(answer, performance.now());
    noteEvents(answer.status);
    show(answer);
    showSilence(null);
  } catch (error) {
    showSilence(error.name === 'TimeoutError' ? 'no response for 10 seconds' : error.message);
  }
}

/// A page that is not seen asks nothing.
async function run() {
  if (!document.hidden) await ask();
  setTimeout(run, EVERY);
}

for (const [letter, meaning] of CELLS) {
  at('legend').append(make('li', null, make('svg', { viewBox: '0 0 1000 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...shape(letter, 0, 1000)), meaning));
}
at('legend').append(make('li', null, make('svg', { viewBox: '0 0 1000 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
  make('rect', { class: 'm', x: 0, y: 0, width: 1000, height: 20 }), make('rect', { class: 'reader', x: 440, y: 0, width: 120, height: 20 })), 'the reader'));
run();
