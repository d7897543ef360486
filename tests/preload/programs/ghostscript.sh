# ghostscript: a generated PostScript file to a bitmap, directly and by way of PDF.
needs gs
cat >pages.ps <<'PS'
%!PS
/star { gsave translate 0 setgray newpath 40 0 moveto
    1 1 23 { dup 2 mod 0 eq { 40 } { 18 } ifelse exch 15 mul
        dup cos 3 index mul exch sin 3 index mul lineto pop } for
    closepath gsave setrgbcolor fill grestore stroke grestore } def
1 1 3 {
    /page exch def
    0 1 39 { /i exch def
        i 40 div page 3 div 1 i 40 div sub
        i 8 mod 70 mul 40 add i 8 idiv 140 mul 60 add star
    } for
    /Times-Roman findfont 14 scalefont setfont
    0 1 45 { /i exch def 30 i 17 mul 20 add moveto
        (Line of text number ) show i 12 string cvs show } for
    << /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 600 800] /Extend [true true]
       /Function << /FunctionType 2 /Domain [0 1] /C0 [1 page 3 div 0] /C1 [0 0 1] /N 1 >> >>
    gsave 100 300 400 200 rectclip shfill grestore
    gsave 300 400 translate page 20 mul rotate 200 200 scale
    64 64 8 [64 0 0 64 0 0] { 64 string 0 1 63 { 2 copy dup 4 mul put pop } for } image grestore
    showpage
} for
PS
run gs -q -dSAFER -dNOPAUSE -dBATCH -sDEVICE=ppmraw -r150 -dTextAlphaBits=4 -dGraphicsAlphaBits=4 \
    -sOutputFile=page%d.ppm pages.ps
sha256sum page*.ppm
run gs -q -dSAFER -dNOPAUSE -dBATCH -sDEVICE=pdfwrite -sOutputFile=pages.pdf pages.ps
run gs -q -dSAFER -dNOPAUSE -dBATCH -sDEVICE=pnggray -dNumRenderingThreads=2 -dBandHeight=100 \
    -dMaxBitmap=100000 -r100 -sOutputFile=pdf%d.png pages.pdf
sha256sum pdf*.png
