# node: worker threads, the thread pool of zlib and crypto, buffers, a child process.
needs node
cat >work.js <<'SCRIPT'
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');
const { execFileSync } = require('child_process');
const { promisify } = require('util');

const hash = (data) => crypto.createHash('sha256').update(data).digest('hex').slice(0, 16);

function work(seed) {
  let state = seed + 1;
  const table = new Map();
  const buffers = [];
  for (let i = 0; i < 60000; i++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    table.set('k' + (state % 5003), { at: i, text: 'v'.repeat(state % 50) });
    if (i % 20 === 0) buffers[state % 300] = Buffer.alloc(state % 20000, i & 255);
  }
  return hash(JSON.stringify([...table].sort())) + hash(Buffer.concat(buffers.filter(Boolean)));
}

async function main() {
  const workers = [0, 1, 2, 3].map((seed) => new Promise((done, failed) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.once('message', done).once('error', failed);
  }));
  console.log(await Promise.all(workers));
  const list = Array.from({ length: 30000 }, (_, i) => ({ i, s: i * i }));
  const text = Buffer.from(JSON.stringify(list));
  const deflate = (level) => promisify(zlib.deflate)(text, { level });
  const packed = await Promise.all([1, 3, 6, 9].map(deflate));
  console.log(await Promise.all(packed.map(async (p) => hash(await promisify(zlib.inflate)(p)))));
  console.log(hash(await promisify(zlib.brotliCompress)(text.subarray(0, 100000))));
  const key = (n) => promisify(crypto.pbkdf2)('secret' + n, 'salt', 5000, 32, 'sha512');
  console.log((await Promise.all([1, 2, 3, 4].map(key))).map(hash));
  const child = execFileSync(process.execPath, ['-p', '[..."abc"].reverse().join()']);
  console.log(child.toString().trim());
  console.log(hash(text.toString().replace(/\d+/g, (d) => d.length)), work(9));
}

if (isMainThread) main(); else parentPort.postMessage(work(workerData));
SCRIPT
run node work.js
