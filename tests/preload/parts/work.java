// work.java - keeps a JVM busy in ways that reach malloc; prints the same every time.
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.function.IntUnaryOperator;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

class work {
    static String hash(byte[] data) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(data);
        return HexFormat.of().formatHex(digest, 0, 8);
    }

    /** Native memory: zlib's state and buffers outside the heap. */
    static String outside(int seed) throws Exception {
        byte[] text = IntStream.range(0, 20000).mapToObj(i -> "line " + i * seed)
                .collect(Collectors.joining("\n")).getBytes(StandardCharsets.UTF_8);
        List<ByteBuffer> buffers = new ArrayList<>();
        for (int level = 1; level <= 9; level++) {
            Deflater deflater = new Deflater(level);
            deflater.setInput(text);
            deflater.finish();
            byte[] packed = new byte[text.length];
            int length = deflater.deflate(packed);
            deflater.end();
            Inflater inflater = new Inflater();
            inflater.setInput(packed, 0, length);
            byte[] back = new byte[text.length];
            inflater.inflate(back);
            inflater.end();
            buffers.add(ByteBuffer.allocateDirect(back.length + level).put(back).flip());
        }
        byte[] last = new byte[buffers.get(8).remaining()];
        buffers.get(8).get(last);
        return hash(last) + (buffers.get(0).equals(buffers.get(5)) ? "" : " differ");
    }

    public static void main(String[] arguments) throws Exception {
        var pool = Executors.newFixedThreadPool(8);
        List<Callable<String>> tasks = new ArrayList<>();
        for (int seed = 1; seed <= 8; seed++) {
            int own = seed;
            tasks.add(() -> outside(own));
        }
        for (var result : pool.invokeAll(tasks)) {
            System.out.println(result.get());
        }
        pool.shutdown();

        var table = new ConcurrentHashMap<Integer, String>();
        IntStream.range(0, 200000).parallel().forEach(i -> table.merge(
                i * 31 % 5003, "v" + i % 7, (old, more) -> old.length() < 40 ? old + more : more));
        System.out.println(new TreeMap<>(table).keySet().hashCode());

        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            threads.add(new Thread(() -> table.put(Thread.currentThread().hashCode(), "done")));
            threads.get(i).start();
        }
        for (Thread thread : threads) {
            thread.join();
        }

        int sum = 0;
        for (int i = 0; i < 60; i++) {
            int own = i;
            IntUnaryOperator operator = n -> n * own % 1000;
            sum += IntStream.range(0, 20000).map(operator).filter(n -> n % 3 == 0).sum();
            Pattern pattern = Pattern.compile("(\\d)" + i + "+|x{" + i + "}");
            sum += pattern.matcher("7".repeat(500) + i).find() ? 1 : 0;
        }
        System.out.println(sum);
    }
}
