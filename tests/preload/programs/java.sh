# A JVM: the compiler, then a program with threads, compression, buffers outside the Java heap and
# enough run-time compilation to keep its arenas busy.
needs java javac
cp "$parts/work.java" .
run javac -J-XX:-UsePerfData -d . work.java
run java -XX:-UsePerfData -XX:+UseG1GC -Xmx200m -cp . work
